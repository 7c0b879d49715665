"""Words and word pairs of a text, for naming topics: any script, common function words left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A run of letters with inner apostrophes, hyphens, underscores or digits ("don't", "utf-8", "x86_64").
_WORD = re.compile(r"[^\W\d_](?:[\w]|['\u2019\-](?=\w))*")
# Scripts written without spaces: a pair of characters stands for a word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f]")

_ADDRESS = re.compile(r"(?:https?|ftp)://\S+|www\.\S+")

_LONGEST = 40

_ENGLISH = """
a about above after again all also although always am an and another any are aren't around as at be became
because become been before being below between both but by came can can't cannot come could couldn't did
didn't do does doesn't doing don't done down during each either else even ever every few first for from
further get gets give given go goes going got had hadn't has hasn't have haven't having he her here hers
herself him himself his how however i i'd i'll i'm i've if in into is isn't it it's its itself just know last
least less let let's like made make makes many may maybe me might mine more most much must my myself need
needs neither never new no nor not now of off often on once one only onto or other our ours out over own per
please put quite rather really s said same say see seem she should shouldn't show since so some something
still such t take tell than that that's the their theirs them themselves then there there's these they
they're thing things this those though through thus to together too toward two under until up upon us use
used uses using very via want was wasn't way we well went were weren't what what's when where whether which
while who whom whose why will with within without won't would wouldn't yes yet you you'd you'll you're you've
your yours yourself
"""
_GERMAN = """
aber alle als also am an auch auf aus bei beim bin bis bist da damit dann das dass dein dem den denn der des
deren die dies diese dieser dieses doch dort du durch ein eine einem einen einer eines er es etwas euch für
gegen hab habe haben hat hatte hier ich ihm ihn ihr ihre im in ins ist ja jede jeder jedes jetzt kann kein
keine können man mehr mein meine mich mir mit muss nach nicht noch nun nur ob oder ohne sehr sein seine sich
sie sind so soll sondern über um und uns unser unter viel vom von vor war waren was weil wenn wer werden wie
wieder wir wird wo wurde wurden zu zum zur zwischen
"""
_FRENCH = """
ai ainsi alors au aucun aussi autre aux avec avoir c'est ce ceci cela ces cet cette ceux chaque comme d'un
d'une dans de des donc dont du elle elles en encore entre est et eu été être eux fait font il ils je l'on la
le les leur leurs lui là ma mais me mes moi mon même ne ni nos notre nous on ont ou où par pas peu peut plus
pour qu'il que quel quelle qui sa sans se ses si son sont sous sur ta te tes toi ton tous tout toute toutes
très tu un une vers vos votre vous y à
"""
_SPANISH = """
al algo algunas algunos ante antes aunque cada como con contra cual cuando de del desde donde dos el ella
ellas ellos en entre era es esa ese eso esta estaba están estas este esto estos está fue ha han hasta hay la
las le les lo los me mi mis mucho muy más nada ni no nos nosotros o otra otro para pero poco por porque que
quien qué se sea ser si sido sin sobre son su sus sí también tan te tiene toda todo todos tu tus un una uno
unos ya yo él
"""
_ITALIAN = """
agli ai al alla alle allo anche avere c'è che chi ci come con cosa cui da dagli dai dal dalla dalle degli dei
del dell della delle dello di dove e ed era essere gli ha hanno ho il in io la le lei li lo loro lui ma mi mia
mio ne nei nel nella nelle noi non nostro o ogni per perché più può quale quando quella quello questa queste
questi questo qui se sei si sia sono sta stato su sua sue sugli sul sulla suo tra tu tutti tutto un una uno vi
voi è
"""
_PORTUGUESE = """
a ao aos as até com como da das de dela dele do dos e ela elas ele eles em entre era essa esse esta este eu
foi foram há isso isto já lhe mais mas me mesmo meu minha muito na nas nem no nos nós não o os ou para pela
pelas pelo pelos por qual quando que quem se sem ser seu seus sua suas são só também te tem têm um uma você à
às é
"""
_DUTCH = """
aan al alles als altijd ander bij daar dan dat de der deze die dit doch doen door dus een en er ge geen
geweest haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in is ja je kan kon kunnen maar me
meer men met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op over reeds te tegen toch
toen tot u uit uw van veel voor want waren was wat werd wezen wie wil worden wordt zal ze zelf zich zij zijn
zo zonder zou
"""
# What addresses and markup leave behind; it names no topic.
_MARKUP = "badge com gif github href html http https img io jpg nbsp net org png src svg target url urls www"
STOP_WORDS = frozenset(
    f"{_MARKUP} {_ENGLISH} {_GERMAN} {_FRENCH} {_SPANISH} {_ITALIAN} {_PORTUGUESE} {_DUTCH}".split()
)


def terms(text: str) -> Iterator[str]:
    """The words of a text in lower case, and the pairs of words that stand side by side in it.

    Function words, web addresses, single letters and words longer than 40 characters count as gaps: no pair
    spans one.
    """
    text = _ADDRESS.sub("\n", text)
    before = ""
    end = 0
    for match in _WORD.finditer(text):
        word = match.group().lower().replace("\u2019", "'").removesuffix("'s")
        if _UNSPACED.search(word):
            before = ""
            yield from _character_pairs(word)
            continue
        if len(word) < 2 or len(word) > _LONGEST or word in STOP_WORDS:  # noqa: PLR2004 - one letter says nothing
            before = ""
            continue
        yield word
        # A full stop or a line break between two words parts them as well.
        if before and text[end : match.start()].isspace():
            yield f"{before} {word}"
        before, end = word, match.end()


def _character_pairs(word: str) -> Iterator[str]:
    if len(word) == 1:
        return
    for i in range(len(word) - 1):
        yield word[i : i + 2]
