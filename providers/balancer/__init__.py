"""The load balancer in front of a control plane: HAProxy, and keepalived for the address that moves."""
