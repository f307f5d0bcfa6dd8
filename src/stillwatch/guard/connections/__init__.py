"""The two sides of the wire: clients bounded and made strict, the model server verified."""
