"""The variational autoencoder: module, objective, training, encoding."""
