"""Clusters that kubeadm makes on Linux hosts."""
