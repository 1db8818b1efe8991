"""What the platform's own programs would do in their pods (which don't run): played on the real API server.

A player acts only while the pods that it stands for are there and ready. All it knows is in the cluster's objects and
on the machines' disks, so a power cut takes from it what it takes from a real cluster.
"""
