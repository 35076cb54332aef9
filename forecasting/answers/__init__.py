"""The forecast and what it answers: revenue, attainment, leads needed, the table of deals."""
