#!/usr/bin/env python3
"""Write the invented population register of this example: einwohner.csv and bad-rows.csv.

    python3 generate.py            write both files beside this script
    python3 generate.py --check    compare them with what would be written; exit status 1 if they differ

Everybody is invented: names are drawn from the lists below, and any likeness to a living or dead person is
chance. The output depends on SEED and on this file alone, byte for byte: no clock, no `random` module (whose
sequences may change between versions of Python), no locale.

`bad-rows.csv` lists what a careful reader must refuse: physical line (the header is line 1), column number (from 1;
0 when the row as a whole is wrong), column name, and the reason's code. README.md explains each.
"""

import datetime
import pathlib
import sys

SEED = 6532023
ROWS = 2000
TODAY = datetime.date(2026, 11, 23)  # the day of the extract; nobody good is born or dies after it
HERE = pathlib.Path(__file__).resolve().parent
AGS = "06532023"

COLUMNS = [
    "Kennung", "Familienname", "Vornamen", "Rufname", "Doktorgrad", "Geburtsname", "Geburtsdatum", "Geburtsort",
    "Geschlecht", "Staatsangehörigkeiten", "Straße", "Hausnummer", "Hausnummernzusatz", "PLZ", "Ort", "Ortsteil",
    "AGS", "Wohnungsstatus", "Einzugsdatum", "Auszugsdatum", "Sterbedatum", "Auskunftssperre",
    "Gesetzliche Vertreter",
]

# (street, district, post code)
STREETS = [(street, district, code) for code, district, streets in [
    ("35576", "Niedergirmes", "Bahnhofstraße|Altenberger Straße|Wiesenstraße|Neustadt|Karl-Kellner-Ring|Waldgirmeser "
     "Straße|Naunheimer Straße|Hermannsteiner Straße|Lahnufer|Gartenheimer Weg"),
    ("35578", "Kernstadt", "Langgasse|Krämerstraße|Silhöfer Straße|Lottestraße|Goethestraße|Hausertorstraße|"
     "Brühlsbachstraße|Weißadlergasse|Frankfurter Straße|Ernst-Leitz-Straße|Garbenheimer Straße|Am Kalsmunt|"
     "Friedrich-Ebert-Straße|Kornblumengasse|Zuckergasse|Spilburgstraße|Stoppelberger Hohl|Bergstraße|Laufdorfer Weg|"
     "Pariser Gasse|Obertorstraße"),
    ("35579", "Steindorf", "Steindorfer Straße|Am Wingert|Wilhelmstraße|Zum Lahnblick"),
    ("35580", "Nauborn", "Wetzbachtalstraße|Hintergasse|Am Honigbaum|Laufdorfer Straße|Erlenweg"),
    ("35581", "Münchholzhausen", "Rechtenbacher Straße|Am Brückelchen|Pfingstweide|Schulstraße"),
    ("35583", "Garbenheim", "Untergasse|Kreisstraße|Am Plan|Goethebrunnenweg"),
    ("35584", "Naunheim", "Wetzlarer Straße|Fichtenweg|Lindenstraße|An der Großmühle"),
    ("35585", "Blasbach", "Kölschhäuser Straße|Am Himberg|Backhausgasse"),
    ("35586", "Hermannstein", "Loherstraße|Burgstraße|Dillfeld|Großaltenstädter Straße|Rosenweg"),
] for street in streets.split("|")]

NEAR = ["Wetzlar", "Wetzlar", "Wetzlar", "Gießen", "Gießen", "Marburg", "Frankfurt am Main", "Herborn", "Weilburg",
        "Siegen", "Köln", "Düsseldorf", "Görlitz", "Weißenfels", "Mühlhausen/Thüringen", "St. Goarshausen",
        "Königsberg (Pr.), jetzt Kaliningrad", "Lüneburg", "Münster (Westf.)", "Rotenburg a. d. Fulda"]

# weight, nationality, birth places, male first names, female first names, family names ("m/f" where they differ)
ORIGINS = [
    (780, "DE", "|".join(NEAR),
     "Jürgen|Günther|Björn|Jörg|Götz|Klaus-Dieter|Hans-Peter|Lukas|Leon|Finn|Ben|Jonas|Elias|Paul|Noah|Felix|Karl|"
     "Heinrich|Wolfgang|Matthias|Thomas|Stefan|Sebastian|Tobias|Uwe|Rainer|Horst|Lothar|René|André|Maximilian|Emil|"
     "Oskar|Moritz|Henri|Theo|Kai-Uwe|Dirk|Ulrich|Hermann|Friedrich Wilhelm|Johann Georg",
     "Käthe|Bärbel|Jördis|Ursula|Hannelore|Anna-Lena|Marie|Emma|Mia|Hannah|Lina|Clara|Ida|Frieda|Mathilda|Greta|"
     "Sabine|Petra|Susanne|Annegret|Heike|Brigitte|Renate|Ingrid|Gisela|Elfriede|Zoë|Chloé|Noëlle|Sophie|Luise|"
     "Johanna|Eva-Maria|Anne-Sophie|Birgit|Martina|Daniela|Katharina|Elisabeth Margarethe|Änne|Edeltraud",
     "Müller|Schäfer|Weiß|Groß|Krämer|Jäger|Böhm|Götz|Köhler|Schröder|Fuß|Strauß|Völkel|Hühn|Löw|Bäcker|Zörb|Weller|"
     "Becker|Hofmann|Schmidt|Wagner|Klein|Neumann|Schwarz|Zimmermann|Krüger|Hartmann|Lange|Schmitt|Kraus|Meier|Lehmann|"
     "Huber|Herrmann|Walter|Peters|Möller|König|Keßler|Großmann|Rühl|Dörr|Bepler|Lotz|Velten|Schleifenbaum|Henß|"
     "Mißler|Öhlschläger|Überall|Ägidius|Weiß-Groß|Müller-Lützenrath|Krämer-Schönfeld|von der Heide|von und zu Aue|"
     "zur Mühlen|vom Berg|von Weyhe-Großenbuch|Freiherr von Tannenquell|Gräfin von Hirschlohe/Graf von Hirschlohe"),
    (55, "TR", "İstanbul|Ankara|İzmir|Şanlıurfa|Kahramanmaraş|Wetzlar|Gießen|Çorum",
     "Mehmet|Mustafa|Çağrı|Ömer|Uğur|İbrahim|Görkem|Yiğit|Oğuzhan|Şahin|Emre",
     "Ayşe|Fatma|Gülşen|Çiğdem|Şebnem|Özlem|Tuğba|Elif|İpek|Büşra",
     "Yılmaz|Öztürk|Şahin|Çelik|Yıldırım|Doğan|Güneş|Kılıç|Özdemir|Aydın|Taş|Çakıroğlu|Karaağaçlı"),
    (35, "PL", "Kraków|Łódź|Gdańsk|Wrocław|Częstochowa|Opole",
     "Paweł|Łukasz|Grzegorz|Michał|Stanisław|Wojciech|Zbigniew", "Małgorzata|Agnieszka|Elżbieta|Żaneta|Bożena|Zofia",
     "Kowalski/Kowalska|Wiśniewski/Wiśniewska|Wójcik|Dąbrowski/Dąbrowska|Szczęśniak|Żółć|Chrząszczewski|Gołąb"),
    (30, "SY", "Ḥalab|Dimašq|Ḥomṣ|Deir ez-Zor", "Aḥmad|ʿAbd ar-Raḥmān|Muḥammad|Yūsuf|Khālid|Omar",
     "Fāṭima|Nūr|Layla|Amīna|Rīm|Hibā", "al-Ḥasan|al-Khatib|Abū Zayd|ʿAlī|an-Nāṣir|al-ʿAbdallāh|Darwish|ash-Shami"),
    (30, "UA", "Kyjiw|Lwiw|Odesa|Charkiw|Saporischschja|Tscherniwzi",
     "Oleksandr|Wolodymyr|Serhij|Andrij|Mychajlo|Jurij", "Oksana|Nataliia|Kateryna|Solomija|Iryna|Mar’jana",
     "Schewtschenko|Kowaltschuk|Bondarenko|Hryhor’jew/Hryhor’jewa|Melnyk|Sawtschenko|Chmelnyzkyj/Chmelnyzka"),
    (12, "VN", "Hà Nội|Huế|Đà Nẵng|Thành phố Hồ Chí Minh", "Văn Đức|Minh Tuấn|Quang Hải|Hữu Phước",
     "Thị Hồng Nhung|Thị Ánh Nguyệt|Ngọc Diễm|Mỹ Lệ", "Nguyễn|Trần|Lê|Phạm|Đặng|Võ|Huỳnh|Bùi"),
    (12, "GR", "Thessaloníki|Athína|Ioánnina|Irákleio", "Geórgios|Dimítrios|Níkos|Ioánnis|Spyrídon",
     "María|Eléni|Aikateríni|Vasilikí", "Papadópoulos/Papadopoúlou|Oikonómou|Geōrgiádis/Geōrgiádou|Dimitríou"),
    (14, "IT", "Agrigento|Forlì|Napoli|Cefalù", "Niccolò|Giosuè|Salvatore|Calogero", "Mariù|Noemì|Concetta|Giulia",
     "D’Angelo|Dell’Orto|De Luca|Cantù|Lo Presti|Nicolò"),
    (12, "HR", "Đakovo|Šibenik|Split|Karlovac", "Željko|Krešimir|Đuro|Ante", "Snježana|Đurđica|Nevenka|Živka",
     "Horvat|Kovačević|Babić|Đurić|Šarić|Žic"),
    (10, "RO", "Timișoara|Iași|Brașov|Bacău", "Ștefan|Ionuț|Mihai", "Ștefania|Mădălina|Anișoara",
     "Popescu|Țăranu|Bălan|Mureșan"),
    (6, "PT", "Évora|Guimarães|Braga", "João|Gonçalo|Simão", "Inês|Conceição|Letícia",
     "Gonçalves da Conceição|Simões|Araújo|Brandão"),
    (4, "FR", "Avignon|Besançon|Orléans", "François|Loïc|Anaël", "Anaïs|Maëlys|Françoise", "L’Hôpital|Lefèvre|Bœuf"),
    (4, "DK", "Tønder|Aabenraa|Ærøskøbing", "Søren|Jørgen|Åge", "Åse|Mærsk|Bodil", "Ærø|Sørensen|Ågård"),
    (4, "HU", "Győr|Pécs|Hódmezővásárhely", "Győző|László|Ödön", "Erzsébet|Tünde|Zsófia", "Kővári|Szűcs|Őry"),
    (4, "IS", "Reykjavík|Akureyri", "Þór|Björgvin", "Guðrún|Þórunn", "Ásgeirsson/Ásgeirsdóttir|Þórsson/Þórsdóttir"),
    (4, "ER", "Asmara|Keren", "Tesfay|Yonas|Filmon", "Selam|Luwam|Senait", "Gebremeskel|Tesfamariam|Woldemichael"),
    (4, "XK", "Prizren|Gjakovë", "Agim|Bekim", "Vjollcë|Mimozë", "Krasniqi|Gjonbalaj|Hoxhë"),
    (3, "IE", "Sligo|Dún Laoghaire", "Séamus|Pádraig", "Siobhán|Niamh", "O’Brien|Ó Súilleabháin|MacGill’Eain"),
]


class Dice:
    """SplitMix64: small, well known, and the same everywhere."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    def below(self, bound):
        return self.next() % bound

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def chance(self, percent):
        return self.below(100) < percent

    def pick(self, items):
        return items[self.below(len(items))]

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


dice = Dice(SEED)
used_ids = set()


def new_id():
    alphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
    while True:
        text = "".join(dice.pick(alphabet) for _ in range(10))
        candidate = f"{text[:5]}-{text[5:]}"
        if candidate not in used_ids:
            used_ids.add(candidate)
            return candidate


def german(day):
    return day.strftime("%d.%m.") + f"{day.year:04d}"


def born_at(age):
    """A birthday of somebody who is `age` on the day of the extract."""
    return TODAY - datetime.timedelta(days=int(age * 365.2425) + dice.between(1, 360))


def origin():
    roll = dice.below(sum(o[0] for o in ORIGINS))
    for candidate in ORIGINS:
        if roll < candidate[0]:
            return candidate
        roll -= candidate[0]
    raise AssertionError("weights do not add up")


def family_name(of, sex):
    name = dice.pick(of[5].split("|"))
    parts = name.split("/")
    if name.startswith("Gräfin"):
        parts.reverse()
    return parts[-1] if sex == "w" and len(parts) > 1 else parts[0]


def given_names(of, sex):
    names = of[3 if sex == "m" else 4].split("|")
    first = dice.pick(names)
    if dice.chance(25):
        second = dice.pick(names)
        if second != first:
            return f"{first} {second}", first
    return first, ""


def home():
    street, district, code = dice.pick(STREETS)
    number = str(dice.between(1, 148)) if not dice.chance(2) else ""
    suffix = dice.pick("aabbcdef") if number and dice.chance(12) else ""
    if number and dice.chance(2):
        number = f"{number}-{int(number) + 2}"
    return {"Straße": street, "Hausnummer": number, "Hausnummernzusatz": suffix, "PLZ": code, "Ortsteil": district}


def person(of, sex, age, address, **given):
    names, called = given_names(of, sex)
    birth = born_at(age)
    moved_in = max(birth, TODAY - datetime.timedelta(days=dice.between(20, 14000)))
    row = {column: "" for column in COLUMNS}
    row.update(address)
    row.update({
        "Kennung": new_id(), "Familienname": family_name(of, sex), "Vornamen": names, "Rufname": called,
        "Geburtsdatum": german(birth), "Geburtsort": dice.pick(of[2].split("|")), "Geschlecht": sex,
        "Staatsangehörigkeiten": of[1], "Ort": "Wetzlar", "AGS": AGS, "Einzugsdatum": german(moved_in),
        "Wohnungsstatus": "Hauptwohnung" if dice.chance(8) else "alleinige Wohnung",
    })
    if of[1] != "DE" and dice.chance(30):
        row["Staatsangehörigkeiten"] = f"DE,{of[1]}"
    if age >= 28 and dice.chance(2):
        row["Doktorgrad"] = "Dr."
    if dice.chance(1):
        row["Auskunftssperre"] = "ja"
    row.update(given)
    return row


def adult_age():
    return dice.pick([dice.between(18, 39), dice.between(30, 64), dice.between(40, 69), dice.between(60, 92)])


def household():
    """One to six people at one address; children carry the ids of those who act for them."""
    of, address, roll = origin(), home(), dice.below(100)
    if roll < 38:
        return [person(of, dice.pick("mw"), adult_age(), address)]
    if roll < 62:
        age = adult_age()
        man, woman = person(of, "m", age, address), person(of, "w", age, address)
        if dice.chance(70):
            woman["Geburtsname"] = woman["Familienname"]
            woman["Familienname"] = man["Familienname"]
            if dice.chance(15) and " " not in woman["Geburtsname"] + woman["Familienname"]:
                woman["Familienname"] = f'{woman["Geburtsname"].split("-")[0]}-{man["Familienname"].split("-")[0]}'
        return [man, woman]
    parent_age = dice.between(24, 47)
    parents = [person(of, "w", parent_age, address)]
    if roll < 90:
        parents.append(person(of, "m", parent_age + dice.between(0, 6), address))
    children = []
    for _ in range(dice.pick([1, 1, 2, 2, 2, 3, 4])):
        child = person(of, dice.pick("mw"), dice.between(0, min(17, parent_age - 18)), address, Doktorgrad="")
        if of[1] not in ("PL", "IS", "GR", "UA"):
            child["Familienname"] = parents[-1]["Familienname"]
        child["Gesetzliche Vertreter"] = ",".join(parent["Kennung"] for parent in parents)
        children.append(child)
    return parents + children


def special_people():
    """What every real register holds and every first version of a program forgets."""
    de = ORIGINS[0]

    def one(age=40, sex="w", **given):
        return person(de, sex, age, home(), **{"Staatsangehörigkeiten": "DE", "Auskunftssperre": "", **given})

    rows = [
        one(Familienname="Sutrisna", Vornamen="", Rufname="", Staatsangehörigkeiten="ID", Geburtsort="Yogyakarta"),
        one(Familienname="", Vornamen="Thuzar", Rufname="", Staatsangehörigkeiten="MM", Geburtsort="Yangon"),
        one(sex="m", Familienname="Habibullah", Vornamen="", Rufname="", Staatsangehörigkeiten="AF", Geburtsort="Ghazni"),
        one(Familienname="Ng", Vornamen="O", Rufname="", Staatsangehörigkeiten="MY"),
        one(Familienname="Wolkensteinhausenbergerdorff-Großkleinmichelbacher-Überlindenhöfer",
            Vornamen="Maximiliane Theodora Wilhelmine Friederike Auguste Karoline Henriette Eleonore"),
        one(Familienname="dos Santos de Oliveira e Vasconcelos Bragança", Staatsangehörigkeiten="PT,BR"),
        one(Familienname="van 't Hoff", Staatsangehörigkeiten="NL"),
        one(Familienname="d'Aubremont", Geburtsname="Œuvrard", Staatsangehörigkeiten="FR"),
        one(Familienname='Lindner', Vornamen='Johanna "Hanni"', Rufname="Johanna"),
        one(Straße='Gut "Zum Anker"; Hinterhaus', Hausnummer=""),
        one(Straße="Am Kalsmunt; Seiteneingang", Hausnummer="7", PLZ="35578", Ortsteil="Kernstadt"),
        one(Straße="ohne festen Wohnsitz", Hausnummer="", Hausnummernzusatz=""),
        one(Straße="", Hausnummer="", Hausnummernzusatz="", Ortsteil=""),
        one(Familienname="Becker  ", Vornamen="Ute ", Geburtsort="Wetzlar   "),
        one(Familienname=" Hofmann", Straße="Langgasse ", Hausnummer=" 12 ", PLZ="35578 ", Ortsteil="Kernstadt"),
        one(Geburtsdatum="29.02.2008", Vornamen="Schalta", Rufname=""),
        one(Geburtsdatum="29.02.1960", sex="m"),
        one(Geburtsdatum="29.02.2020", sex="m", Doktorgrad=""),
        one(Geburtsdatum="01.01.1900", Einzugsdatum="02.11.1953", Sterbedatum="14.03.2011"),
        one(Geschlecht="d"), one(Geschlecht="x"), one(Geschlecht="d", Staatsangehörigkeiten="DE,AT"),
        one(Staatsangehörigkeiten="XXA", Geburtsort="Beirut"), one(Staatsangehörigkeiten="XXX", Geburtsort=""),
        one(Staatsangehörigkeiten="DE,TR,US"),
        one(Auskunftssperre="ja"), one(Auskunftssperre="ja", sex="m"), one(Auskunftssperre="nein"),
        one(Auszugsdatum="31.01.2027"),  # announced, still here
        one(Einzugsdatum="01.02.2027"),  # announced, not here yet
    ]
    for birth in ["00.00.1950", "00.00.1944", "00.00.1938", "00.00.1990", "00.00.2008", "00.00.2010", "00.07.1971",
                  "00.11.2008", "00.12.2010", "00.01.1962", "00.00.1929", "00.00.0000"]:
        rows.append(one(Geburtsdatum=birth, Staatsangehörigkeiten=dice.pick(["DE", "AF", "SY", "DE,KZ"]), Doktorgrad="",
                        Geburtsort="", Einzugsdatum="15.09.2019", Sterbedatum=""))
    for birth in ["03.05.1919", "17.12.1920", "24.08.1921", "11.11.1922", "02.02.1923", "30.06.1924", "09.10.1925"]:
        rows.append(one(Geburtsdatum=birth, Einzugsdatum="01.04.1961", Vornamen=dice.pick(["Elfriede", "Änne"]),
                        Rufname=""))
    pairs = [("Müller", "Anna", "m", "12.03.1984"), ("Schmidt", "Thomas", "m", "30.09.1971"),
             ("Yılmaz", "Mehmet", "m", "01.01.1975"), ("Nguyễn", "Văn Đức", "m", "01.01.1980"),
             ("Schäfer", "Emma", "w", "05.07.2015"), ("Weiß", "Jürgen", "m", "21.04.1955")]
    for name, first, sex, birth in pairs:
        for _ in range(2):
            rows.append(one(sex="w" if first in ("Anna", "Emma") else sex, Familienname=name, Vornamen=first, Rufname="",
                            Geburtsdatum=birth, Doktorgrad="", Einzugsdatum="01.06.2016"))
    for _ in range(45):
        rows.append(one(dice.between(19, 30), dice.pick("mw"), Wohnungsstatus="Nebenwohnung", Doktorgrad=""))
    for _ in range(60):
        gone = TODAY - datetime.timedelta(days=dice.between(1, 700))
        came = gone - datetime.timedelta(days=dice.between(90, 2000))
        rows.append(one(dice.between(28, 60), dice.pick("mw"), Einzugsdatum=german(came), Auszugsdatum=german(gone)))
    for number in range(30):
        died = TODAY - datetime.timedelta(days=dice.between(1, 900))
        rows.append(one(dice.between(62, 97), dice.pick("mw"), Einzugsdatum="01.10.1988",
                        Sterbedatum="00.00.2025" if number == 0 else german(died)))
    return rows


def spoil(rows):
    """Make the deliberate faults. Each takes an adult nobody's row refers to, so that one fault stays one fault."""
    referred = {i for row in rows for i in row["Gesetzliche Vertreter"].split(",") if i}
    plain = [n for n, row in enumerate(rows) if row["Kennung"] not in referred and not row["Gesetzliche Vertreter"]
             and row["Wohnungsstatus"] == "alleinige Wohnung" and row["Familienname"].strip() == row["Familienname"]
             and not row["Geburtsdatum"].startswith("00") and not row["Auszugsdatum"] and not row["Sterbedatum"]
             and row["Straße"] in {street for street, _, _ in STREETS}]
    faults = [
        ("Geburtsdatum", "31.02.1987", "no-such-day"),
        ("Geburtsdatum", "ca. 1960", "not-a-date"),
        ("Geburtsdatum", "14.05.2031", "in-the-future"),
        ("Geburtsdatum", "03.08.1826", "implausible-age"),
        ("Kennung", "", "missing-value"),
        ("Kennung", None, "duplicate-id"),
        ("Familienname", "", "missing-value"),
        ("Geschlecht", "7", "unknown-code"),
        ("Staatsangehörigkeiten", "ZZ", "unknown-nationality"),
        ("PLZ", "3557B", "not-a-postal-code"),
        ("AGS", "6532023", "not-a-municipality-key"),
        ("Wohnungsstatus", "Drittwohnung", "unknown-code"),
        ("Auszugsdatum", "01.01.1931", "before-moving-in"),
        ("Sterbedatum", "02.01.1909", "before-birth"),
        (None, -2, "wrong-column-count"),
        (None, 1, "wrong-column-count"),
    ]
    step = len(plain) // (len(faults) + 1)
    report, ragged = [], {}
    for k, (column, value, reason) in enumerate(faults, start=1):
        index = plain[k * step]
        row = rows[index]
        if reason == "duplicate-id":
            value = rows[index - 40]["Kennung"]
            report.append((index - 40 + 2, 1, "Kennung", "id-used-again"))
        if column == "Familienname":
            row["Vornamen"] = ""
        if column is None:
            ragged[index] = value
        else:
            row[column] = value
        report.append((index + 2, COLUMNS.index(column) + 1 if column else 0, column or "", reason))
    return sorted(report), ragged


def quoted(text):
    if any(c in text for c in ';"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def build():
    rows = special_people()
    while len(rows) < ROWS:
        family = household()
        if len(rows) + len(family) <= ROWS:
            rows.extend(family)
    dice.shuffle(rows)
    report, ragged = spoil(rows)
    lines = [";".join(COLUMNS)]
    for index, row in enumerate(rows):
        cells = [quoted(row[column]) for column in COLUMNS]
        if index in ragged:
            cells = cells[: ragged[index]] if ragged[index] < 0 else cells + [""] * ragged[index]
        lines.append(";".join(cells))
    register = "\n".join(lines) + "\n"
    bad = "Zeile;Spalte;Spaltenname;Grund\n" + "".join(";".join(map(str, entry)) + "\n" for entry in report)
    return {"einwohner.csv": register.encode(), "bad-rows.csv": bad.encode()}


def main():
    files = build()
    if sys.argv[1:] == ["--check"]:
        stale = [name for name, data in files.items() if (HERE / name).read_bytes() != data]
        if stale:
            sys.exit(f"differs from what generate.py writes: {', '.join(stale)}; run generate.py without --check")
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    for name, data in files.items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
