"""Linux hosts on loopback addresses: their SSH server is real, their packages, services and files are played."""
