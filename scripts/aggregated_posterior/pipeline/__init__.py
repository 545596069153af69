"""What the workflow needs of the library: configuration, schemas, digests of code, scripts' logs."""
