"""What an uploader is told about an archive that is not taken: what is wrong, and what to do."""

_MAKE_ANEW = "make a new one with an ordinary ZIP program"

_DAMAGED = f"The archive is damaged or unusual; {_MAKE_ANEW}."
_DAMAGED_FILE = f"A file in the archive is damaged; check it, then {_MAKE_ANEW}."
_CUT_OFF = "The archive does not end where it should; make a new one, and let the upload finish."
_HOSTILE = "The archive is made to do harm."
_UNREADABLE = "This image can't be read; save it again as JPEG or PNG."

ADVICE = {
    "absolute_path": _HOSTILE,
    "ambiguous_directory": _DAMAGED,
    "archive_too_large": "The archive is too large; make the images smaller, or split the chapter.",
    "bad_central_directory": _DAMAGED,
    "bad_data_descriptor": _DAMAGED,
    "bad_extra_field": _DAMAGED,
    "bad_local_header": _DAMAGED,
    "bad_name": "A file's name is empty, too long or unreadable; rename it, such as to 001.jpg.",
    "bad_zip64": _DAMAGED,
    "corrupt_member": _DAMAGED_FILE,
    "crc_mismatch": _DAMAGED_FILE,
    "decoder_died": _UNREADABLE,
    "decoder_out_of_memory": "This image takes too much memory; make it smaller.",
    "decoder_timeout": "This image takes too long to read; make it smaller or save it again.",
    "directory_with_data": _DAMAGED,
    "disguised_executable": "This is a program and not an image.",
    "duplicate_name": "Two files have the same name; rename or remove one.",
    "encrypted": "The archive has a password; make one without.",
    "header_mismatch": _DAMAGED,
    "image_bomb": _HOSTILE,
    "image_too_large": "This image has too many pixels; make it smaller.",
    "inflates_too_large": "The files are too large together; make the images smaller.",
    "longer_than_declared": _DAMAGED_FILE,
    "multi_disk": "The archive is one part of several; make a single one.",
    "name_mismatch": f"A file in the archive has two different names; {_MAKE_ANEW}.",
    "nested_archive": "There is an archive in the archive; put the images in directly.",
    "no_pages": "There are no images in the archive; put the pages in as JPEG, PNG, WebP or AVIF.",
    "not_a_zip": "This is not a whole ZIP archive; make one, and let the upload finish.",
    "nul_in_name": "A file's name has a character that no name may have; rename it.",
    "overlapping_entries": "Files in the archive share their data, as no ZIP program does it.",
    "page_too_large": "This image is too large; make it smaller.",
    "path_traversal": _HOSTILE,
    "prepended_data": f"There is something else in front of the archive; {_MAKE_ANEW}.",
    "runs_over_end": _CUT_OFF,
    "several_folders": "The pages lie in several folders; put them all into one.",
    "shorter_than_declared": _DAMAGED_FILE,
    "special_file": "This is a link or a device and not a file; put in the file itself.",
    "too_many_entries": "There are too many files in the archive; split the chapter.",
    "trailing_data": _CUT_OFF,
    "truncated_member": _DAMAGED_FILE,
    "type_mismatch": "This is another kind of file than its name says; rename it or save it again.",
    "undecodable_image": _UNREADABLE,
    "unlisted_data": _DAMAGED,
    "unsupported_method": "The archive is packed in a way that is not read here; use plain ZIP.",
    "unused_member_data": _DAMAGED_FILE,
    "zip_bomb": _HOSTILE,
}
"""By the code of a refusal; what exactly was found is put behind it, for who wants to know."""
