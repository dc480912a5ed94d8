"""Tags as somebody may see and change them, and who is named for it."""

from __future__ import annotations

import pytest

from vse.catalogue.guarded import Guarded
from vse.catalogue.guarded_metadata import GuardedMetadata
from vse.catalogue.metadata import Metadata
from vse.errors import Denied, NoSuchEntry
from vse.model import Identity, Lfn, NewAccess, NewFile
from vse.model.tags import TagDefinition, TagType

MINE, OTHER, HIDDEN = Lfn("/data/mine/a"), Lfn("/data/other/b"), Lfn("/data/hidden/c")
RUN = TagDefinition("run", TagType.INTEGER, Lfn("/"), "")


@pytest.fixture
def tags(catalogue):
    """Those that bob may see: one directory is his, one anybody may read, one is closed."""
    catalogue.register(
        [
            NewFile(MINE, 1, owner="bob", group="users"),
            NewFile(OTHER, 1, owner="alice", group="users"),
            NewFile(HIDDEN, 1, owner="alice", group="users"),
        ]
    )
    catalogue.change_access([NewAccess(HIDDEN.parent, mode=0o700)])
    whole = Metadata(catalogue)
    whole.define(Lfn("/"), [RUN])
    whole.set([OTHER, HIDDEN], {"run": 7})
    bob = Identity("bob", ("users",))
    return GuardedMetadata(whole, Guarded(catalogue.acting("bob"), bob))


def test_only_what_may_be_written_to_is_tagged(tags, catalogue):
    result = tags.set([MINE, OTHER, HIDDEN, Lfn("/data/none")], {"run": 8})
    assert set(result.ok) == {MINE}
    assert {lfn: type(error) for lfn, error in result.failed.items()} == {
        OTHER: Denied,
        HIDDEN: Denied,
        "/data/none": NoSuchEntry,
    }
    assert [tag.value for tag in Metadata(catalogue).show([OTHER]).one(OTHER)] == [7]
    assert set(tags.unset([MINE, OTHER], ["run"]).ok) == {MINE}
    told = [(one.who, one.action) for one in catalogue.history(MINE)]
    assert told[-2:] == [("bob", "tag"), ("bob", "untag")]


def test_schemas_belong_to_who_may_write_to_their_directory(tags, catalogue):
    with pytest.raises(Denied, match="define tags for /data/other"):
        tags.define(OTHER.parent, [RUN])
    with pytest.raises(Denied):
        tags.undefine(Lfn("/"), ["run"])
    tags.define(MINE.parent, [TagDefinition("note", TagType.TEXT, MINE.parent, "")])
    assert [one.name for one in tags.schema(MINE.parent)] == ["note", "run"]
    assert [(one.who, one.action) for one in catalogue.history(MINE.parent)][-1] == ("bob", "define tags")
    with pytest.raises(Denied):
        tags.schema(HIDDEN)


def test_what_cannot_be_reached_is_neither_shown_nor_found(tags, catalogue):
    shown = tags.show([OTHER, HIDDEN])
    assert (set(shown.ok), set(shown.failed)) == ({OTHER}, {HIDDEN})
    found = tags.find(Lfn("/"), "*", "run = 7")
    assert next(found).entry.lfn == OTHER
    with pytest.raises(Denied, match="/data/hidden"):
        list(found)
    files = catalogue.find(Lfn("/"), "*")
    assert [one.entry.lfn for one in tags.among(files, "run = 7")] == [OTHER]
