"""Grammars of texts: what a request asks for, checked, bounded and compiled by llguidance.

Door and engine compile the same source, so what the door has let in can be enforced.
"""
