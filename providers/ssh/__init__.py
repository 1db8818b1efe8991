"""Linux hosts over SSH: commands and files, with the host's key pinned."""
