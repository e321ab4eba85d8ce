"""The test kit: a fake gateway, and a pytest plugin around it."""
