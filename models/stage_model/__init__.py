"""Where deals go next and after how many days: one posterior per open stage."""
