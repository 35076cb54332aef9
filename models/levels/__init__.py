"""How much faster or slower than usual deals move now, and will: two series of log factors, and seasons of the year."""
