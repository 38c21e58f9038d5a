"""Documents to train on: a text file with one document a line."""

from pathlib import Path

EMBEDDED_NAMES = Path(__file__).with_name("names.txt")
MAX_CHARACTERS = 1000
"""More distinct characters than this are taken for a mistake: every one becomes a token of the model."""


class DataError(ValueError):
    """A file that cannot be trained on; the message is a sentence for the person who named the file."""


def load_documents(path: Path | str | None = None) -> list[str]:
    """The lines of a text file without surrounding white space, blank ones left out; the embedded names for None.

    Raises DataError for a file that is missing, unreadable, binary or empty, or that has more than
    MAX_CHARACTERS distinct characters.
    """
    path = EMBEDDED_NAMES if path is None else Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; a text file with one document a line is needed.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; a text file with one document a line is needed.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({reason}); a text file with one document a line is needed.") from None
    if "\0" in text:
        raise DataError(f"{path} holds binary data; a text file with one document a line is needed.")
    docs = [line.strip() for line in text.split("\n") if line.strip()]
    if not docs:
        raise DataError(f"{path} holds no documents: every line is empty.")
    characters = len(set("".join(docs)))
    if characters > MAX_CHARACTERS:
        raise DataError(
            f"{path} has {characters} distinct characters, and each would be a token; "
            f"at most {MAX_CHARACTERS} are taken."
        )
    return docs
