"""What touches the world: one package a device or service, a plain client and a thin resource over it."""
