#!/usr/bin/env python3
"""Take the names and phrases of `cldr.tsv` out of the CLDR data in the package `babel`.

    python cldr.py                # write cldr.tsv again (needs babel==2.18.0)
    python cldr.py --check        # where countries.tsv and CLDR disagree

cldr.tsv is in the folder, so training needs no babel.
"""

import argparse
from pathlib import Path

HERE = Path(__file__).parent
LOCALES = ("en", "fr", "de", "es")
LANGUAGES = ("en fr de es it pt ru zh ja ar hi tr pl nl sv da fi cs hu el he ko vi th id uk ro bg sr hr sk sl et "
             "lv lt sq ka hy fa ur sw ga cy eu ca is mt la").split()
UNITS = ("duration-day duration-week duration-month duration-year duration-hour duration-minute duration-second "
         "length-meter length-kilometer length-centimeter length-mile mass-kilogram mass-gram volume-liter "
         "mass-tonne digital-byte").split()
FIELDS = ("year", "month", "week", "day", "hour", "minute", "second")
SKIP = {"CG", "CD", "PS"}  # CLDR names them in another way than countries.tsv


def plain(text):
    for a, b in (("’", "'"), ("ʻ", "'"), ("\u202f", " "), ("\xa0", " "), ("–", "-"), ("‑", "-")):
        text = text.replace(a, b)
    return text


def countries():
    lines = (HERE / "countries.tsv").read_text(encoding="utf-8").splitlines()
    return [dict(zip(lines[0].split("\t"), line.split("\t"))) for line in lines[1:]]


def rows():
    from babel import Locale
    locales = {k: Locale(k) for k in LOCALES}
    for c in countries():
        if c["code"] not in SKIP:
            names = [locales[k].territories[c["code"]] for k in LOCALES[1:]]
            yield ("country", c["code"], (c["the"] + " " + c["name"]).strip(), *names)
    for code in LANGUAGES:
        yield ("language", code, *(locales[k].languages[code] for k in LOCALES))
    for i in range(7):
        yield ("day", str(i + 1), *(locales[k].days["stand-alone"]["wide"][i] for k in LOCALES))
    for i in range(1, 13):
        yield ("month", str(i), *(locales[k].months["stand-alone"]["wide"][i] for k in LOCALES))
    for field in FIELDS:
        data = {k: locales[k]._data["date_fields"][field] for k in LOCALES}
        for tense in ("past", "future"):
            for count in ("one", "other"):
                names = [data[k][tense].get(count) for k in LOCALES]
                if all(names):
                    yield (f"{tense}-{count}", field, *names)
    for unit in UNITS:
        for count in ("one", "other"):
            names = []
            for k in LOCALES:
                pattern = locales[k]._data["unit_patterns"][unit]["long"]
                names.append(pattern.get(count))
            if all(names):
                yield ("unit-" + count, unit.split("-")[1], *names)


def check():
    from babel import Locale
    from babel.languages import get_territory_language_info
    from babel.numbers import get_currency_name, get_territory_currencies
    english = Locale("en")
    for c in countries():
        code, notes = c["code"], []
        name = plain(english.territories[code])
        money = [plain(get_currency_name(x, locale="en")) for x in get_territory_currencies(code, tender=True)]
        info = get_territory_language_info(code)
        official = [plain(english.languages.get(k.split("_")[0], k))
                    for k, v in sorted(info.items(), key=lambda i: -i[1]["population_percent"])
                    if v["official_status"] in ("official", "de_facto_official")]
        if name != c["name"]:
            notes.append(f"name: {name}")
        if c["currency"].lower() not in [m.lower() for m in money]:
            notes.append(f"currency {c['currency']}: {', '.join(money)}")
        if c["language"] not in official:
            notes.append(f"language {c['language']}: {', '.join(official[:4])}")
        elif c["language"] != official[0]:
            notes.append(f"language {c['language']}, first by speakers: {official[0]}")
        if notes:
            print(code, c["name"], *notes, sep="\t")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="list where countries.tsv and CLDR disagree")
    if p.parse_args().check:
        return check()
    lines = ["\t".join(("kind", "code") + LOCALES)] + ["\t".join(map(plain, row)) for row in rows()]
    (HERE / "cldr.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"cldr.tsv: {len(lines) - 1} rows")


if __name__ == "__main__":
    main()
