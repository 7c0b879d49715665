"""Every type of file that can be read: the only place where formats are listed.

A new format is one row here and, unless Tika or a present reader takes it, one new file.
"""

from __future__ import annotations

from dataclasses import dataclass

_HERE = "app.pipeline.extraction"
_TIKA = f"{_HERE}.tika_server:TikaExtractor"
_PLAIN = f"{_HERE}.plain:PlainTextExtractor"
_CODE = f"{_HERE}.plain:SourceCodeExtractor"
_ARCHIVE = f"{_HERE}.archive:ArchiveExtractor"
_OOXML = "application/vnd.openxmlformats-officedocument"
_ODF = "application/vnd.oasis.opendocument"


@dataclass(frozen=True, slots=True)
class Format:
    """One row: what it is called, how files of it are named, who reads it."""

    media_type: str
    label: str
    extensions: tuple[str, ...]  # lower case, without dot, the usual one first
    implementation: str  # "module:class", imported on first use
    is_text: bool = False  # bytes are text: then the name decides which text format it is


FORMATS: tuple[Format, ...] = (
    Format("application/pdf", "PDF document", ("pdf",), f"{_HERE}.pdf:PdfExtractor"),
    Format(f"{_OOXML}.wordprocessingml.document", "Word document", ("docx", "docm", "dotx", "dotm"), _TIKA),
    Format(
        f"{_OOXML}.spreadsheetml.sheet", "Excel workbook", ("xlsx", "xlsm", "xltx", "xltm", "xlsb"), _TIKA
    ),
    Format(
        f"{_OOXML}.presentationml.presentation",
        "PowerPoint presentation",
        ("pptx", "pptm", "ppsx", "ppsm", "potx"),
        _TIKA,
    ),
    Format("application/msword", "Word 97-2003 document", ("doc", "dot"), _TIKA),
    Format("application/vnd.ms-excel", "Excel 97-2003 workbook", ("xls", "xlt"), _TIKA),
    Format("application/vnd.ms-powerpoint", "PowerPoint 97-2003 presentation", ("ppt", "pps"), _TIKA),
    Format("application/vnd.ms-outlook", "Outlook message", ("msg",), _TIKA),
    Format(f"{_ODF}.text", "OpenDocument text", ("odt", "ott"), _TIKA),
    Format(f"{_ODF}.spreadsheet", "OpenDocument spreadsheet", ("ods", "ots"), _TIKA),
    Format(f"{_ODF}.presentation", "OpenDocument presentation", ("odp", "otp"), _TIKA),
    Format("application/epub+zip", "EPUB book", ("epub",), _TIKA),
    Format("application/rtf", "Rich Text document", ("rtf",), _TIKA),
    Format(
        "text/html", "Web page", ("html", "htm", "xhtml", "xht"), f"{_HERE}.html:HtmlExtractor", is_text=True
    ),
    Format(
        "text/markdown",
        "Markdown text",
        ("md", "markdown", "mdown", "mkd", "qmd", "rmd"),
        f"{_HERE}.markdown:MarkdownExtractor",
        is_text=True,
    ),
    Format(
        "text/plain",
        "Plain text",
        ("txt", "text", "log", "rst", "adoc", "org", "tex", "bib", "srt", "vtt", "po", "diff", "patch"),
        _PLAIN,
        is_text=True,
    ),
    Format(
        "text/csv",
        "Comma separated values",
        ("csv",),
        f"{_HERE}.tables:SeparatedValuesExtractor",
        is_text=True,
    ),
    Format(
        "text/tab-separated-values",
        "Tab separated values",
        ("tsv", "tab"),
        f"{_HERE}.tables:SeparatedValuesExtractor",
        is_text=True,
    ),
    Format(
        "application/json",
        "JSON",
        ("json", "geojson", "jsonld"),
        f"{_HERE}.json_values:JsonExtractor",
        is_text=True,
    ),
    Format(
        "application/x-ndjson",
        "JSON lines",
        ("ndjson", "jsonl"),
        f"{_HERE}.json_values:JsonLinesExtractor",
        is_text=True,
    ),
    Format(
        "application/x-ipynb+json",
        "Jupyter notebook",
        ("ipynb",),
        f"{_HERE}.json_values:NotebookExtractor",
        is_text=True,
    ),
    Format(
        "application/xml",
        "XML",
        ("xml", "xsd", "xsl", "rss", "atom", "svg", "dbk", "fb2", "tei"),
        f"{_HERE}.xml_text:XmlExtractor",
        is_text=True,
    ),
    Format("application/yaml", "YAML", ("yaml", "yml"), _CODE, is_text=True),
    Format("application/toml", "TOML", ("toml",), _CODE, is_text=True),
    Format(
        "text/x-source",
        "Source code",
        (
            *("py", "pyi", "rs", "go", "java", "kt", "scala", "c", "h", "cc", "cpp", "hpp", "cs", "swift"),
            *(
                "js",
                "mjs",
                "cjs",
                "jsx",
                "ts",
                "tsx",
                "vue",
                "svelte",
                "css",
                "scss",
                "less",
                "php",
                "rb",
                "pl",
            ),
            *(
                "lua",
                "r",
                "jl",
                "m",
                "f90",
                "hs",
                "ml",
                "ex",
                "exs",
                "erl",
                "clj",
                "lisp",
                "el",
                "sh",
                "bash",
            ),
            *("zsh", "fish", "ps1", "bat", "sql", "proto", "graphql", "tf", "nix", "cmake", "gradle", "mk"),
            *("ini", "cfg", "conf", "properties", "env", "j2", "asm", "s", "zig", "dart", "vb"),
        ),
        _CODE,
        is_text=True,
    ),
    Format(
        "message/rfc822",
        "E-mail message",
        ("eml", "mht", "mhtml"),
        f"{_HERE}.mail:MailExtractor",
        is_text=True,
    ),
    Format("application/zip", "ZIP archive", ("zip",), _ARCHIVE),
    Format("application/x-tar", "TAR archive", ("tar",), _ARCHIVE),
    Format("application/gzip", "GZIP archive or file", ("gz", "tgz"), _ARCHIVE),
    Format("application/x-bzip2", "BZIP2 archive or file", ("bz2", "tbz2"), _ARCHIVE),
    Format("application/x-xz", "XZ archive or file", ("xz", "txz"), _ARCHIVE),
)

BY_MEDIA_TYPE = {row.media_type: row for row in FORMATS}
BY_EXTENSION = {extension: row for row in FORMATS for extension in row.extensions}
