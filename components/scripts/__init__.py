"""Programs that run in pods of ours. Standard library only, besides the modules that are shipped with them."""
