"""One way of deriving seeds: every random stream has a name of its own."""

import hashlib


def derive_seed(*words: int | str) -> int:
    """Seed of the stream that these words name; other words give an unrelated stream.

    The same on every machine and in every process, so noise can be drawn again from its name alone.

    Returns:
        63 bits, as `torch.manual_seed` takes them.

    Example:
        >>> derive_seed(0, "train", 7)
        187698860987664102
    """
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
