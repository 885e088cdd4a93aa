"""The stores in this process's memory."""
