"""The numbers of papers, and ours beside them."""
