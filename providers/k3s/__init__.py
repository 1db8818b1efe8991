"""k3s on Linux hosts: its files, its servers and agents, how a host comes in and how it leaves."""
