"""The verified model server: KServe's Open Inference Protocol v2 over bytes that were verified before they were loaded."""
