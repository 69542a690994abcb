"""The vision-language model as an action prior. `base` states the contract; heavy imports stay in the modules."""
