"""How it is carried: ports, carriers, the worker, and what every process needs to run."""
