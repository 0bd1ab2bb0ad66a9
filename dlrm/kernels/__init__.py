"""Native code for CPUs: C++ behind torch operators, and whether it is there."""
