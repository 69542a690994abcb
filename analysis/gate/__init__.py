"""The gate: does an agent train as its reference does, and if not, is it worse?"""
