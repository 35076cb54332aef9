"""What the belief about deals means for revenue: reading, forecasting, answering, showing."""
