"""The one video that all simulated productions deliver.

A bar of colour moves to the right for three seconds: 64 x 36 pixels, ten frames a second, no sound. The MP4
is stored compressed because its frames are not: they are H.264 with I_PCM macroblocks only.
"""

import base64
import struct
import zlib

VIDEO_SECONDS = 3.0

_MP4 = zlib.decompress(
    base64.b64decode(
        "eNrtmkFrE0EUx9+2KmoNqNQiUmKQCL1W6qHQg9ZLv4A3e9hkExOaNWV3u2BPEtoSQbBnT/kI+Qg9eBFEevbmF/AjGN/MJmQT"
        "21q3IMr+Hpm8mdnJzOz86fvB9IlIqR693m6GbV9kRozX8siNq8v+9sqy9n332+1YRFp+3PBk0q5rKYoj5jM2Z2rUVPuJnGkz"
        "+tmNAndL6y+iLbvm7AmzFX/55XnWNV9lu8yC7zVdrZR87+T3ev7R1h82vFYwehA3vVp6YMUNQrPSJ7/5qq6V+di3k6WXLnvJ"
        "s0UvqNVTW7uxE7RKSd15G0aVltb3wyj0UmN2jBCnvJ55mbJsqN84dcS03R0M9Pu+zvrMWT+aG3yTqy/Vf731I3LkUuPL2hsz"
        "KIyiMDVlceiXdHOj/ivDPuPntNzUckfLPfOiOq6a+n16jnf6bDe1Ie2/bQ7h2mT5G30yH0bV9nifswsifs/33EjHL9a6e73j"
        "jlp/aJ/V8tY+PHyv1u1m9aura2qbm1l9QR7n3DoXtPiChgIogAJwAA4QhVAABeAAHIADRCEUQIG8KmDuyC4//fDg4CiprI8q"
        "lVGlYyrmDqmztDK5734/b2175AqArN4euQIgqy/ImF/JvvLWtujVw8zqLXr1MLN6IhbMQAE4AAfgAFEIDqAAHIADcIAoBAe4"
        "Q/rtHdJe7xi1/oW/l/R/Q/LWtuhVy+otetWy+oKM+ZVY3toWvWpZvUWvWlYPM6A2CsABOAAHiEJwAAXgAByAA0Sh/y0PCbWg"
        "dj4VIH+b/G2iEAqgAByAA3CAKIQCKAAH4AAc4A6JPCSYgQLkb5/dJn+b/G2iEBxAATgAB+AAUQgOoAAcgAN55cCf5SGRt0fe"
        "HsxAAfK3yd+GA3AADqAAHIADcAAOwAEUgAN55MC57pB+Amd2mn0="
    )
)


def make_video(comment: str) -> bytes:
    """Return the video with a comment in a `free` box at its end, which players skip."""
    text = comment.encode()
    return _MP4 + struct.pack(">I4s", 8 + len(text), b"free") + text
