"""What fuzzing found, kept: each file once ended in a traceback."""

import base64
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from aggregated_posterior.data.archives import walk_files
from aggregated_posterior.posterior import containers
from aggregated_posterior.posterior.foreign_files import read_posteriors
from aggregated_posterior.storage import DataError

from .test_readers import npy_header, posteriors, safetensors, zipped

FINDS = {
    # NumPy tokenises a header that Python cannot read, and the tokeniser has an error of its own.
    "a header that ends within a bracket": ("a.npz", zipped([("mean", npy_header("{", b""))])),
    "9 000 open brackets": ("a.npz", zipped([("mean", npy_header("(" * 9_000, b""))])),
    "9 000 nested brackets": ("a.npz", zipped([("mean", npy_header("[" * 9_000 + "]" * 9_000, b""))])),
    "10¹² points": (
        "a.npz",
        zipped([("mean", npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1), }", b""))]),
    ),
    "9 000 brackets in safetensors": ("a.safetensors", safetensors(b"[" * 9_000, b"")),
    "10¹² points in safetensors": (
        "a.safetensors",
        safetensors(b'{"mean":{"dtype":"F64","shape":[1000000000000,1],"data_offsets":[0,8000000000000]}}', b""),
    ),
    "a header of 2⁶³ bytes": ("a.safetensors", struct.pack("<Q", 2**63) + b"{}"),
}
# A string of `obs` whose place in HDF5's heap is damaged: the library looks for it for ever. Compressed, in base85.
ENDLESS = (
    b"c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvf&e@>yVe$!3nh{EOK<O1sFmXn(oCH){5NbZUx{x4OSCH!eXaHu<16Byl!7vI&BJgl^3;@v)P(Ca"
    b"@onS&$m!DLe3#C!gr30Dv;!3|B%n*JCD{<-9f@3uOj;3Ek`c;6Hm#nDja#IuYKy*%idVE=8QD$OZaw>8<wjj~oU_XBsMg}H$sjjDpT3&"
    b"}i`DMze=~ICjRULYIA8CM*fejKCj4-|igl2*Wh(Ogrg9(Gr3@kxFDg_nffpsh-1&DJnh}T2qS%D!Bl4oLu7|0Ej2Qe7o_HlqqqLkFMoW"
    b"zn;s2QO6f|N|mOw0|O2&+NXLX`y2Bs|d5)n*a=>S5_hgMG9tKn9?CgAq%;@tc6Y9m1%5^z_Cu8nmNe6pVsVFbYP&C>RC93RJ`~eqiALp"
    b"R=FAuHKD(-`-Ek_V=$|vt6jjx&N=yPP@vN%j};O7uo+)H`yQhbK(A1ee(PBTs3X|&Wap(!<Dd)xoZCY2c_2g`$M?*OMF_m&-UOYJCVXx"
    b"`|0zT_qn}TXK(DKwO{e)X1hzC>GrLi2W)?Y+U+;`mc5@V`qjRxRf%@m){Xn+jl%Xl;#S^wyM)Vr*7<0=%+Fix0ut5t7wlx&H*b@N{Q-^"
    b"r_WYU)_dA|AXus5TjXfKShyAX!cDuS=3-;wK*k!-}<uCi6v!B@qg|4ul_-mV;{;FB~e|?^~dmo>MJ^RZg`wM(e*-41svAeBrWUo7M`u^"
    b"}#&HbAHOD+w8uGnEwI(Efybs_i(==&`{+JzVeqhJ(_f>AIEM!_f;SzU<agp3>K4VnxX9&vdcWdt^SQJd9}<}4#4YO@;AOcVes72tqr;X"
    b"rLZGeMfq@MbZilp?ALFfd_oh7ThX2EsKPj6RD-Xf}AA8Us>@je?N|aII#Tri`jCCow5Cr<j2uB|k5}h=F#i8N^f|d^0uT((gC*(eyi-e"
    b"lb@wgsGvbOU_S81+BwLPAo}H&o9bMErz8-2%vN|L!A|V^|18$P8ro+^z=T`0D3suX%ZKXTneLUAGJKi-)2G#Il^ej(4!<!9u)Qh47l1("
    b"3}|g9KP`v}252tm7-ZoA%#&IOKO^&*(D)#>yR*L!*rNid`4dJbGa&RLizlIlD@;5QO2dXOVT(<`^{0Xn11nZ>V+J;?;s$U&s<<IMKcJh"
    b">iNky@9OiT5FrNp9`MhZ2qaGV-9)p?Bhr=9x9Oek%Fh>xFJB4tVFO0(+5gg`-;&6``4)euvm;(bRct>lEQ7{Td!6+C7qhN#pR;ST07zL"
    b"wX6pVr)4oIITBzMfK&l+Na10$*n2G^JusHY1X(-KGHi=pvF(fGn>d=WH09~z$@jW2-47ewO=q48PJ_^fDrHZ(pv8lMA=&xyw8LgRCz@p"
    b";hrpuqqD61uip"
)


@pytest.mark.parametrize("find", FINDS)
def test_finds_are_one_line(tmp_path, find):
    name, content = FINDS[find]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_posteriors(tmp_path / name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_a_file_that_the_library_never_ends_with(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "H5AD_SECONDS", 3)
    (tmp_path / "a.h5ad").write_bytes(zlib.decompress(base64.b85decode(ENDLESS)))
    with pytest.raises(DataError, match="the HDF5 library did not come to an end in 3 s"):
        read_posteriors(tmp_path / "a.h5ad")


def test_thousands_of_names_are_cut_at_ten(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **posteriors(), **{f"\x1b[2Jname{number}": np.zeros(1) for number in range(3000)})
    (note,) = [note for note in read_posteriors(path).warnings if "ignored" in note]
    assert "2,990 more" in note and len(note) < 1000 and note.isprintable()


@pytest.mark.parametrize("name", ["mean", "variance", "labels", "mean_test"])
def test_a_single_value_is_no_array_of_rows(tmp_path, name):
    np.savez(tmp_path / "a.npz", **{**posteriors(), name: np.float64(0)})
    with pytest.raises(DataError, match=rf"{name} is a single value"):
        read_posteriors(tmp_path / "a.npz")


def test_a_member_without_a_name_is_a_damaged_archive(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/1.png", b"x")
    (tmp_path / "a.zip").write_bytes(stream.getvalue().replace(b"a/1.png", b"\0/1.png"))
    with pytest.raises(DataError, match="a member has no name"):
        list(walk_files(tmp_path / "a.zip", {".png"}))


def test_a_name_that_is_said_to_be_utf_8_and_is_not_is_a_damaged_archive(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("ä/1.png", b"x")
    (tmp_path / "a.zip").write_bytes(stream.getvalue().replace("ä".encode(), b"\xab\xab"))
    with pytest.raises(DataError, match="damaged"):
        list(walk_files(tmp_path / "a.zip", {".png"}))
