"""How much a date counts: weights of weekdays, holidays and period ends on the speed at which deals are won and lost."""
