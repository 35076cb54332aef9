"""What we believe about how deals move: stages, histories, duration families, models and their posteriors."""
