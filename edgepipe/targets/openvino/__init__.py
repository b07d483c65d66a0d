"""What OpenVINO has on this machine, what its devices support, and how long each layer takes."""
