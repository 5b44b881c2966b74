"""From what a user hands in and asks for to a written file: an order, checked, then carried out."""
