"""File names that must never come out of a package file, by what is evil in them."""

from __future__ import annotations

EMPTY_AND_DOTS = [
    "", ".", "..", "...", "....", ". .", ".. ", " ..", "..\t", ".hidden", "..hidden",
    ".git", ".ssh", ".bashrc", ".htaccess", "x.", "x..", "x. .", "x .", "x ", " x",
    "\tx", "x\t", "\xa0x", "x\xa0", "\u3000x", "\u2003x",
]  # fmt: skip
WAYS_OUT = [
    "../x", "../../x", "../../../etc/passwd", "x/../../y", "x/..", "x/.", "./x", "x/",
    "/", "//", "//x", "/x", "/etc/passwd", "/dev/null", "/proc/self/mem", "a/b", "a//b",
    "..\\x", "..\\..\\x", "a\\b", "\\x", "\\\\host\\share\\x", "\\\\?\\C:\\x",
    "\\\\.\\PhysicalDrive0", "C:\\x", "C:/x", "C:x", "c:", "file:///etc/passwd",
    "..%2fx", "%2e%2e%2fx", "..%5cx", "%2e%2e/x", "..%c0%afx", "%00", "x%00.whl",
    "..;/x", "..././x", "....//x", "~", "~/x", "~root", "~root/.ssh/authorized_keys",
    "$HOME/x", "${HOME}", "%TEMP%\\x", "a/../../../../tmp/x",
]  # fmt: skip
LOOKALIKES_OF_SEPARATORS = [
    "..\u2215x", "\u2215etc", "..\u2044x", "a\u2044b", "..\uff0fx", "a\uff0fb",
    "..\u29f8x", "a\u29f8b", "..\uff3cx", "a\u29f5b", "\u2024\u2024/x", "\uff0e\uff0e",
    "\u2025x", "\u2026x", "a\u2571b", "a\u27cbb", "..\u00b4x",
]  # fmt: skip
DEVICES = [
    "con", "CON", "Con", "con.txt", "CON.tar.gz", "con .txt", "con.", "prn", "PRN.whl",
    "aux", "aux.whl", "AUX.c", "nul", "NUL", "nul.zip", "com0", "com1", "COM1.zip",
    "com2.deb", "com3", "com4.x", "com5", "com6", "com7", "com8", "com9.tgz", "lpt0",
    "lpt1", "LPT1.txt", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8",
    "lpt9", "conin$", "CONOUT$", "com\u00b9", "lpt\u00b2.txt",
]  # fmt: skip
CONTROL_CHARACTERS = [
    "a\0b", "a\0.whl", "\0", "a\nb", "a\rb", "a\r\nb", "\n", "a\x1bb", "\x1b[31mred",
    "\x1b]0;title\x07x", "\x1b[2J", "a\x07b", "a\x08b", "a\x0bb", "a\x0cb", "a\x7fb",
    "a\x80b", "a\x85b", "a\x9bb", "a\u2028b", "a\u2029b", "a\tb", "\ufeffx", "x\ufeff",
]  # fmt: skip
LETTERS_THAT_MISLEAD = [
    "\u202egnp.exe", "x\u202dy", "x\u2066y\u2069", "x\u200by", "x\u200cy", "x\u200dy",
    "x\u200ey", "x\u2060y", "x\u00ady", "na\u0131ve", "caf\u0065\u0301", "caf\u00e9",
    "\u0441ffi.whl", "\u0430bc", "\u03bf", "\uff41\uff42", "\U0001d41a", "\u212aelvin",
    "\u017fet", "stra\u00dfe", "\u1e9e", "\ufb01le", "\u0130", "\U0001f4a9",
    "x\u0338", "\u0000\u0301", "\ud7ff", "\ue000", "\uffff",
]  # fmt: skip
MEANT_FOR_A_SHELL = [
    "-rf", "--help", "-", "-o=x", "a:b", "a::$DATA", "x.whl:stream", "a|b", "a?b",
    "a*b", "*", "a<b", "a>b", 'a"b', "a'b", "a`b`", "$(x)", "a;b", "a&b", "a#b", "!x",
    "a$b", "a^b", "[a]", "{a,b}", "a%b", "=1+1", "@x", "+x", ",x", "(x", "#x",
]  # fmt: skip
TOO_LONG = ["x" * 201, "x" * 255, "x" * 256, "x" * 5000, "\u00e9" * 200, "a/" * 2000]

EVIL_FILE_NAMES = [
    *EMPTY_AND_DOTS,
    *WAYS_OUT,
    *LOOKALIKES_OF_SEPARATORS,
    *DEVICES,
    *CONTROL_CHARACTERS,
    *LETTERS_THAT_MISLEAD,
    *MEANT_FOR_A_SHELL,
    *TOO_LONG,
]
