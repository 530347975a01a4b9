"""Prediction as a service on the network, and the viewer that it shows in a browser."""
