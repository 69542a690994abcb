"""Figures for papers and pages."""
