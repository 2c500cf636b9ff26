"""Fitting the parameters of spatial stages to recorded samples, or to where the sensors stand; done once, offline."""
