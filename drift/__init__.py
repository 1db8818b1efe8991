"""What differs between a lab and what its settings and its state say: looked at, told, and, where asked, taken away."""
