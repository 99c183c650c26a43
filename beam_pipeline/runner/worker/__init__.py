"""What runs inside a Ray worker: Beam's bundle processor with our channel, state, timers and side inputs."""
