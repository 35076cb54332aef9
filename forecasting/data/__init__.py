"""Reading, cleaning and cutting deals at a date; the sample company."""
