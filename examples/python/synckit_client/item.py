"""Section 8.1: a body is one well-formed CBOR item. Decoders pass over what follows it, or take a break as a value."""

BREAK = 0xFF


def is_one_item(body: bytes) -> bool:
    """RFC 8949, appendix C, without its recursion."""
    # What is open: the number of items that an array or a map lacks, or "array", or "key" or "value" of a map without end.
    open_: list[int | str] = []
    place, tagged = 0, False

    def argument() -> int:
        nonlocal place
        low = initial & 0x1F
        if low < 24:
            return low
        length = 1 << (low - 24)
        if low > 27 or place + length > len(body):
            raise ValueError
        place += length
        return int.from_bytes(body[place - length:place], "big")

    try:
        while True:
            initial = body[place]
            place += 1
            major = initial >> 5
            if initial == BREAK:
                if tagged or not open_ or open_.pop() not in ("array", "key"):
                    return False
            elif initial & 0x1F == 0x1F and major in (4, 5):
                open_.append("array" if major == 4 else "key")
                tagged = False
                continue
            elif initial & 0x1F == 0x1F and major in (2, 3):
                while (initial := body[place]) != BREAK:
                    place += 1
                    if initial >> 5 != major:
                        return False
                    place += argument()
                place += 1
            else:
                number = argument()
                if major in (2, 3):
                    place += number
                elif major in (4, 5) and number > 0:
                    open_.append(number * (major - 3))
                    tagged = False
                    continue
                elif major == 6:
                    tagged = True
                    continue
                elif major == 7 and initial & 0x1F == 24 and number < 32:
                    return False
            tagged = False
            while open_ and open_[-1] == 1:
                open_.pop()
            if not open_:
                return place == len(body)
            last = open_[-1]
            open_[-1] = last - 1 if isinstance(last, int) else {"array": "array", "key": "value", "value": "key"}[last]
    except (IndexError, ValueError):
        return False
