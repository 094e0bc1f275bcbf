"""Formats of JSON Schema that llguidance takes too widely, as patterns that are exact, or narrower.

It allows the 29th of February in every year, the year 0, a leap second at any time, and names of hosts of any
length. The grammar of times is that of RFC 3339, section 5.6, without leap seconds.
"""

_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP = (
    "(?:(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26]))"
    "|(?:(?:0[48]|[2468][048]|[13579][26])00))-02-29"
)
_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_HOUR, _SIXTY = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_DATE = f"(?:{_YEAR}-{_DAY}|{_LEAP})"
_TIME = f"{_HOUR}:{_SIXTY}:{_SIXTY}(?:\\.[0-9]{{1,9}})?(?:Z|[+-]{_HOUR}:{_SIXTY})"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9]{0,23}|[A-Za-z0-9]{0,11}-[A-Za-z0-9]{1,11})"

PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    # Ten labels of 24 letters stay below the 253 that a name may have.
    "hostname": f"^{_LABEL}(?:\\.{_LABEL}){{0,9}}$",
}
