"""Cases of the conformance tests, by family of stages."""
