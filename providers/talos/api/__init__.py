"""What goes over the wire; `talos_pb2` is generated from `talos.proto` (see the header of that file)."""
