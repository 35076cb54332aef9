"""Words, files and the page of a forecast: they show, they never compute."""
