"""Wake-on-LAN: a machine's own network card switches it on when it sees its address."""
