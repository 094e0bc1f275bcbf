"""How many streams one API process holds, what each costs, and how late their events come."""
