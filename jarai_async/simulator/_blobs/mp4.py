"""A playable MP4 of plain colours, written by hand: H.264 made of I_PCM macroblocks.

A simulated production should deliver a video that players open, yet a video encoder is a large thing to
install for a picture of a few coloured bars. H.264 has a way out. One kind of macroblock, ``I_PCM``, holds
its 256 luma and 2 x 64 chroma samples as bare bytes: no prediction, transform, quantiser or entropy coder.
It belongs to every profile, the constrained Baseline included, so that every decoder must accept it. What
remains to be written is a dozen header fields in Exp-Golomb codes (clause 9.1 of ITU-T H.264).

- A **key frame** is one IDR slice of I_PCM macroblocks: 386 bytes each, 4.6 kB for 64 x 36 pixels.
- A **held frame** repeats the one before it: a P slice that says "skip them all", nine bytes. A skipped
  macroblock moves by the motion of its neighbours, and there is none, so the copy is exact. Holding makes the
  film longer at no size.
- Pictures come in whole macroblocks of 16 pixels; the sequence parameters **crop** the rest away.
- Three bytes 00 00 00..03 would look like a start code: an **emulation prevention** byte 03 goes between.
- Order of decoding is order of showing (``pic_order_cnt_type`` 2), so that no ``ctts`` box is needed.

Around it stands an ISO base media file (ISO/IEC 14496-12 and -15): ``ftyp``, ``moov``, ``mdat`` in this
order, so that a player may start before the file is complete. All times are zero: equal arguments give
equal bytes.

Not here: sound, which would need an encoder of its own, and pictures that differ from row to row. A picture
is **one line of palette indices**, the same on every row, and so is each column of macroblocks: the samples
are made by slicing and repeating bytes, never pixel by pixel.
"""

import re
import struct
from collections.abc import Iterator, Sequence

FRAMES_PER_SECOND = 10
HOLD = 5  # frames for each picture; below 16, which the four bits of frame_num could not count

_PROFILE, _CONSTRAINTS, _LEVEL = 66, 0b11000000, 11  # constrained Baseline, level 1.1: 192 kbit/s
_SPS, _PPS, _IDR, _P = 0x67, 0x68, 0x65, 0x41  # nal_ref_idc and nal_unit_type
_NEXT_I_PCM = b"\x0d\x00"  # ue(25) and seven bits of alignment: the header of all but the first
_STOP = b"\x80"  # rbsp_trailing_bits on a byte boundary
_START_CODE = re.compile(rb"\x00\x00(?=[\x00-\x03])")
_MATRIX = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # neither turned nor scaled

RGB = tuple[int, int, int]


def video(lines: Sequence[bytes], height: int, palette: Sequence[RGB], *, title: str, comment: str) -> bytes:
    """Return an MP4 that shows each of `lines` for `HOLD` frames.

    `lines` are palette indices, one for each pixel of a row, all of one length; width and height are even.
    """
    width = len(lines[0])
    samples = list(_samples(lines, height, palette))
    ftyp = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2avc1mp41")
    tags = _tags({b"\xa9nam": title, b"\xa9cmt": comment})

    def moov(offset: int) -> bytes:
        return _moov(width, height, [len(sample) for sample in samples], offset, tags)

    offset = len(ftyp) + len(moov(0)) + 8  # a box is as long with any offset in it
    return ftyp + moov(offset) + _box(b"mdat", *samples)


# -- H.264 -----------------------------------------------------------------------------------------------


def _samples(lines: Sequence[bytes], height: int, palette: Sequence[RGB]) -> Iterator[bytes]:
    tables = _tables(palette)
    rows, columns = _blocks(height), _blocks(len(lines[0]))
    for number, line in enumerate(lines):
        yield _sized(_key_frame(number, _macroblocks(line, tables), rows))
        for frame in range(1, HOLD):
            yield _sized(_held_frame(frame, rows * columns))


def _key_frame(number: int, row: Sequence[bytes], rows: int) -> bytes:
    header = _pack(
        _ue(0),  # first_mb_in_slice
        _ue(7),  # slice_type: I, and all slices of the picture
        _ue(0),  # pic_parameter_set_id
        "0000",  # frame_num
        _ue(number % 2),  # idr_pic_id: neighbours must differ
        "00",  # dec_ref_pic_marking: nothing special
        _ue(0),  # slice_qp_delta
        _ue(1),  # disable_deblocking_filter_idc: edges stay sharp
        _ue(25),  # mb_type I_PCM of the first macroblock, then alignment
    )
    return _nal(_IDR, header + _NEXT_I_PCM.join(list(row) * rows) + _STOP)


def _held_frame(frame_num: int, macroblocks: int) -> bytes:
    fields = (
        _ue(0),  # first_mb_in_slice
        _ue(5),  # slice_type: P, and all slices of the picture
        _ue(0),  # pic_parameter_set_id
        f"{frame_num:04b}",
        "000",  # no override of references, no reordering, plain sliding window
        _ue(0),  # slice_qp_delta
        _ue(1),  # disable_deblocking_filter_idc
        _ue(macroblocks),  # mb_skip_run: all of them
        "1",  # rbsp_stop_one_bit
    )
    return _nal(_P, _pack(*fields))


def _macroblocks(line: bytes, tables: Sequence[bytes]) -> list[bytes]:
    """Return the 384 samples of each macroblock along one line, which every row repeats."""
    line = line.ljust(16 * _blocks(len(line)), line[-1:])  # cropped away again
    y, u, v = line.translate(tables[0]), *(line[::2].translate(table) for table in tables[1:])
    return [
        y[x : x + 16] * 16 + u[x // 2 : x // 2 + 8] * 8 + v[x // 2 : x // 2 + 8] * 8
        for x in range(0, len(line), 16)
    ]


def _tables(palette: Sequence[RGB]) -> list[bytes]:
    """Return what turns palette indices into Y, Cb and Cr: ITU-R BT.601, 16 to 235, as players assume."""
    rows = ((16, 65.481, 128.553, 24.966), (128, -37.797, -74.203, 112), (128, 112, -93.786, -18.214))
    return [
        bytes(round(base + (kr * r + kg * g + kb * b) / 255) for r, g, b in palette).ljust(256)
        for base, kr, kg, kb in rows
    ]


def _sequence_parameters(width: int, height: int) -> bytes:
    columns, rows = _blocks(width), _blocks(height)
    fields = (
        f"{_PROFILE:08b}{_CONSTRAINTS:08b}{_LEVEL:08b}",
        _ue(0),  # seq_parameter_set_id
        _ue(0),  # log2_max_frame_num_minus4
        _ue(2),  # pic_order_cnt_type: shown as decoded
        _ue(1),  # max_num_ref_frames
        "0",  # gaps_in_frame_num_value_allowed_flag
        _ue(columns - 1),
        _ue(rows - 1),
        "11",  # frame_mbs_only_flag, direct_8x8_inference_flag
        "1",  # frame_cropping_flag, then left, right, top, bottom in steps of two pixels
        *(_ue(0), _ue((16 * columns - width) // 2), _ue(0), _ue((16 * rows - height) // 2)),
        "0",  # vui_parameters_present_flag
        "1",  # rbsp_stop_one_bit
    )
    return _nal(_SPS, _pack(*fields))


def _picture_parameters() -> bytes:
    fields = (
        _ue(0) * 2,  # pic_parameter_set_id, seq_parameter_set_id
        "00",  # entropy_coding_mode_flag: CAVLC; no field order
        _ue(0) * 3,  # one slice group, one reference in either list
        "000",  # no weighted prediction
        _ue(0) * 3,  # pic_init_qp, pic_init_qs, chroma_qp_index_offset
        "100",  # deblocking_filter_control_present_flag, no constrained intra, no redundant pictures
        "1",  # rbsp_stop_one_bit
    )
    return _nal(_PPS, _pack(*fields))


def _nal(header: int, payload: bytes) -> bytes:
    return bytes([header]) + _START_CODE.sub(b"\x00\x00\x03", payload)


def _sized(nal: bytes) -> bytes:
    return struct.pack(">I", len(nal)) + nal


def _ue(value: int) -> str:
    """Return the Exp-Golomb code of `value`; that of a signed zero is the same."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _pack(*fields: str) -> bytes:
    bits = "".join(fields)
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _blocks(pixels: int) -> int:
    return -(-pixels // 16)


# -- the container ---------------------------------------------------------------------------------------


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, layout: str, *values: int, flags: int = 0) -> bytes:
    """Return a box with a version and flags, its body given as big-endian numbers."""
    return _box(kind, struct.pack(f">I{layout}", flags, *values))


def _moov(width: int, height: int, sizes: Sequence[int], offset: int, tags: bytes) -> bytes:
    ticks = len(sizes)  # one a frame
    mvhd = struct.pack(">7IQ", 0, 0, 0, FRAMES_PER_SECOND, ticks, 1 << 16, 1 << 24, 0)
    tkhd = struct.pack(">6I2I4H", 3, 0, 0, 1, 0, ticks, 0, 0, 0, 0, 0, 0)
    trak = _box(
        b"trak",
        _box(b"tkhd", tkhd, _MATRIX, struct.pack(">II", width << 16, height << 16)),
        _box(
            b"mdia",
            _full(b"mdhd", "4I2H", 0, 0, FRAMES_PER_SECOND, ticks, 0x55C4, 0),  # "und"
            _handler(b"vide", b"", b"bars"),
            _box(b"minf", *_media(width, height, sizes, offset)),
        ),
    )
    return _box(b"moov", _box(b"mvhd", mvhd, _MATRIX, struct.pack(">24xI", 2)), trak, tags)


def _media(width: int, height: int, sizes: Sequence[int], offset: int) -> list[bytes]:
    count = len(sizes)
    keys = range(1, count + 1, HOLD)
    here = _full(b"url ", "", flags=1)  # flag 1: the samples are in this very file
    table = (
        _box(b"stsd", struct.pack(">II", 0, 1), _sample_entry(width, height)),
        _full(b"stts", "3I", 1, count, 1),
        _full(b"stss", f"{1 + len(keys)}I", len(keys), *keys),
        _full(b"stsc", "4I", 1, 1, count, 1),
        _full(b"stsz", f"{2 + count}I", 0, count, *sizes),
        _full(b"stco", "2I", 1, offset),
    )
    return [
        _full(b"vmhd", "4H", 0, 0, 0, 0, flags=1),
        _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), here)),
        _box(b"stbl", *table),
    ]


def _sample_entry(width: int, height: int) -> bytes:
    sps, pps = _sequence_parameters(width, height), _picture_parameters()
    fixed = struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    configuration = _box(
        b"avcC",
        bytes([1, _PROFILE, _CONSTRAINTS, _LEVEL, 0xFF, 0xE1]),  # lengths of four bytes, one SPS
        struct.pack(">H", len(sps)) + sps,
        struct.pack(">BH", 1, len(pps)) + pps,
    )
    return _box(b"avc1", fixed, configuration)


def _handler(kind: bytes, maker: bytes, name: bytes) -> bytes:
    return _box(b"hdlr", struct.pack(">II4s4s8x", 0, 0, kind, maker), name + b"\x00")


def _tags(texts: dict[bytes, str]) -> bytes:
    """Return the title and the like where players look for them (the layout is iTunes')."""
    items = (
        _box(kind, _box(b"data", struct.pack(">II", 1, 0), text.encode())) for kind, text in texts.items()
    )
    head = struct.pack(">I", 0)
    meta = _box(b"meta", head, _handler(b"mdir", b"appl", b""), _box(b"ilst", *items))
    return _box(b"udta", meta)
