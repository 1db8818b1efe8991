"""Machines that boot from the network: what dnsmasq, an HTTP server and iPXE are told, rendered from plain data."""
