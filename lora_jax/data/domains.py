"""The domains of the demo's text: what is spoken of, in which words.

All share the form of `name : X | slot : value` and of a sentence or two about it. Slots, values and
phrases are each domain's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Phrases with {} for the value, which is one of a tuple; or phrases of their own for each value.
Slot = tuple[tuple[str, ...], tuple[str, ...]] | Mapping[str, tuple[str, ...]]


class Domain(NamedTuple):
  """Words of a domain. A phrase is a predicate: it follows the name, or the pronoun."""

  first: tuple[str, ...]  # A name is one of these and one of `last`.
  last: tuple[str, ...]
  openings: tuple[str, ...]  # with {name} and the first {phrase}
  again: tuple[str, ...]  # the beginning of a later sentence
  slots: dict[str, Slot]


HELD_OUT = 'recipes'

DOMAINS: dict[str, Domain] = {
  'restaurants': Domain(
    first=('Golden', 'Blue', 'Old', 'Green', 'Red', 'Silver', 'Happy', 'Royal', 'Quiet', 'Little'),
    last=(
      'Spice',
      'Mill',
      'Eagle',
      'Dragon',
      'Garden',
      'Anchor',
      'Lantern',
      'Oak',
      'Swan',
      'Table',
    ),
    openings=(
      '{name} {phrase}',
      '{name} is a restaurant that {phrase}',
      'there is a place to eat called {name} that {phrase}',
      'if you are hungry , {name} {phrase}',
    ),
    again=('it', 'the restaurant', 'this place'),
    slots={
      'food': (
        ('French', 'Italian', 'Chinese', 'Indian', 'Japanese', 'English', 'Greek', 'Thai'),
        ('serves {} food', 'offers {} dishes', 'has a menu of {} food'),
      ),
      'area': (
        ('city centre', 'riverside', 'old town', 'harbour', 'station quarter'),
        ('is in the {}', 'lies in the {}', 'can be found in the {}'),
      ),
      'price': {
        'cheap': ('costs very little', 'has low prices', 'is cheap'),
        'moderate': ('has average prices', 'is moderately priced', 'costs a fair amount'),
        'high': ('is expensive', 'has high prices', 'costs a lot'),
      },
      'family friendly': {
        'yes': ('welcomes children', 'is a good choice for families', 'is family - friendly'),
        'no': ('is not for children', 'is for adults only', 'is not family - friendly'),
      },
      'rating': (
        ('one', 'two', 'three', 'four', 'five'),
        ('is rated {} out of five', 'has a customer rating of {} stars', 'got {} of five stars'),
      ),
    },
  ),
  'trains': Domain(
    first=('North', 'South', 'Coast', 'Valley', 'Night', 'Morning', 'Lake', 'Border', 'Highland'),
    last=('Express', 'Arrow', 'Liner', 'Runner', 'Star', 'Link', 'Flyer', 'Shuttle', 'Comet'),
    openings=(
      'the {name} {phrase}',
      'the train called {name} {phrase}',
      'passengers of the {name} should know that it {phrase}',
      'take the {name} , which {phrase}',
    ),
    again=('it', 'the train', 'this service'),
    slots={
      'from': (
        ('London', 'York', 'Bristol', 'Leeds', 'Oxford', 'Exeter', 'Bath'),
        ('leaves from {}', 'departs from {}', 'sets out from {}'),
      ),
      'to': (
        ('Glasgow', 'Cardiff', 'Dover', 'Durham', 'Cambridge', 'Brighton', 'Hull'),
        ('goes to {}', 'runs to {}', 'takes you to {}', 'arrives in {}'),
      ),
      'hour': (
        ('six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'noon', 'midnight'),
        ('starts at {}', 'is due at {}', 'is on the timetable for {}'),
      ),
      'platform': (
        ('1', '2', '3', '4', '5', '6', '7'),
        ('stops at platform {}', 'waits at platform {}', 'uses platform {}'),
      ),
      'state': {
        'on time': ('is punctual', 'runs on time', 'keeps to the timetable'),
        'late': ('is delayed', 'runs late', 'will not be on time'),
        'cancelled': ('does not run today', 'has been cancelled', 'was taken off the timetable'),
      },
    },
  ),
  'films': Domain(
    first=('Broken', 'Last', 'Silent', 'Hidden', 'Paper', 'Winter', 'Burning', 'Distant', 'Lost'),
    last=('Promise', 'Letters', 'Horizon', 'Mirror', 'Crown', 'Shadows', 'Voices', 'Game', 'Road'),
    openings=(
      '{name} {phrase}',
      'the film {name} {phrase}',
      '{name} is a film that {phrase}',
      'in cinemas now , {name} {phrase}',
    ),
    again=('it', 'the film', 'the picture'),
    slots={
      'genre': (
        ('comedy', 'drama', 'thriller', 'western', 'musical', 'romance', 'mystery'),
        ('is a {}', 'belongs to the genre of {}', 'was made as a {}'),
      ),
      'director': (
        ('Anna Berg', 'Luis Ortega', 'Mary Stone', 'Jun Mori', 'Paul Kane', 'Ida Lund'),
        ('was directed by {}', 'is the work of {}', 'was shot by director {}'),
      ),
      'year': (
        ('1954', '1968', '1972', '1987', '1999', '2004', '2016'),
        ('came out in {}', 'was released in {}', 'dates from {}'),
      ),
      'length': {
        'short': ('is over quickly', 'lasts less than an hour', 'is a short one'),
        'long': ('lasts more than three hours', 'takes its time', 'is very long'),
      },
      'critics': {
        'praised': ('was praised by the critics', 'won several awards', 'had warm reviews'),
        'mixed': ('divided the critics', 'had mixed reviews'),
        'panned': ('was panned by the critics', 'had bad reviews', 'won nothing at all'),
      },
    },
  ),
  'weather': Domain(
    first=('Upper', 'Lower', 'East', 'West', 'Great', 'Saint', 'New', 'Port', 'Mount'),
    last=('Haven', 'Bridge', 'Field', 'Moor', 'Ridge', 'Bay', 'Cross', 'Dale', 'Marsh'),
    openings=(
      '{name} {phrase}',
      'according to the forecast , {name} {phrase}',
      'the region of {name} {phrase}',
      'expect that {name} {phrase}',
    ),
    again=('it', 'the region', 'the place'),
    slots={
      'sky': {
        'clear': ('has clear skies', 'sees plenty of sun', 'stays sunny'),
        'cloudy': ('is covered in clouds', 'stays grey', 'has cloudy skies'),
        'rain': ('gets rain', 'will be wet', 'needs an umbrella'),
        'snow': ('gets snow', 'turns white', 'is covered in snow'),
      },
      'temperature': (
        ('2', '5', '8', '12', '17', '21', '26', '30'),
        ('reaches {} degrees', 'has a high of {} degrees', 'warms up to {} degrees'),
      ),
      'wind': {
        'calm': ('has hardly any wind', 'lies in calm air'),
        'breezy': ('has a light breeze', 'feels some wind'),
        'stormy': ('is hit by storms', 'has strong gusts', 'braces for a storm'),
      },
      'day': (
        ('Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'),
        ('is in the forecast for {}', 'can expect this on {}', 'has this on {}'),
      ),
    },
  ),
  'hotels': Domain(
    first=('Grand', 'Park', 'Palace', 'Garden', 'Ocean', 'Alpine', 'Central', 'Crown', 'Villa'),
    last=('Inn', 'House', 'Lodge', 'Resort', 'Court', 'View', 'Residence', 'Plaza', 'Suites'),
    openings=(
      'the {name} {phrase}',
      'guests say that the {name} {phrase}',
      'the {name} is a hotel that {phrase}',
      'for the night , the {name} {phrase}',
    ),
    again=('it', 'the hotel', 'the house'),
    slots={
      'rooms': (
        ('12', '20', '35', '48', '60', '90', '150', '240'),
        ('has {} rooms', 'offers {} rooms', 'counts {} rooms'),
      ),
      'view': (
        ('the sea', 'the mountains', 'the park', 'the lake', 'the old bridge'),
        ('looks out on {}', 'has a view of {}', 'faces {}'),
      ),
      'breakfast': {
        'included': ('serves breakfast for free', 'includes breakfast in the price'),
        'extra': ('asks extra for breakfast', 'does not include breakfast'),
      },
      'pets': {
        'allowed': ('lets you bring your dog', 'takes pets', 'is open to animals'),
        'forbidden': ('takes no animals', 'does not allow pets'),
      },
      'stars': (
        ('two', 'three', 'four', 'five'),
        ('has {} stars', 'is a {} - star hotel', 'was given {} stars'),
      ),
    },
  ),
  'books': Domain(
    first=('Secret', 'Glass', 'Iron', 'Forgotten', 'Second', 'Endless', 'White', 'Final', 'Lonely'),
    last=('Island', 'Heart', 'Library', 'Summer', 'River', 'Daughter', 'Clock', 'Song', 'Atlas'),
    openings=(
      '{name} {phrase}',
      'the book {name} {phrase}',
      'readers know that {name} {phrase}',
      '{name} is a book that {phrase}',
    ),
    again=('it', 'the book', 'the volume'),
    slots={
      'author': (
        ('Clara Hale', 'Tom Reed', 'Nadia Karim', 'Oscar Lind', 'Eva Novak', 'Sam Doyle'),
        ('was written by {}', 'comes from the pen of {}', 'is by {}'),
      ),
      'subject': (
        ('history', 'travel', 'gardening', 'music', 'space', 'crime', 'philosophy'),
        ('is about {}', 'deals with {}', 'tells you all about {}'),
      ),
      'pages': (
        ('90', '120', '200', '310', '450', '600', '800'),
        ('has {} pages', 'runs to {} pages', 'fills {} pages'),
      ),
      'cover': {
        'hard': ('comes as a hardback', 'has a hard cover'),
        'soft': ('comes as a paperback', 'has a soft cover'),
      },
      'language': (
        ('English', 'Spanish', 'German', 'Arabic', 'Russian', 'Korean'),
        ('is written in {}', 'can be read in {}', 'was printed in {}'),
      ),
    },
  ),
  HELD_OUT: Domain(
    first=('Lemon', 'Pepper', 'Honey', 'Smoky', 'Creamy', 'Rustic', 'Spiced', 'Sweet', 'Crispy'),
    last=('Stew', 'Tart', 'Salad', 'Soup', 'Pie', 'Curry', 'Pancakes', 'Noodles', 'Bread'),
    openings=(
      '{name} {phrase}',
      'to cook {name} , note that the dish {phrase}',
      'our recipe for {name} {phrase}',
      'the cook says that {name} {phrase}',
    ),
    again=('it', 'the dish', 'the recipe'),
    slots={
      'ingredient': (
        ('chicken', 'lentils', 'mushrooms', 'salmon', 'potatoes', 'spinach', 'almonds', 'plums'),
        ('is made with {}', 'calls for fresh {}', 'gets its flavour from {}'),
      ),
      'minutes': (
        ('10', '15', '25', '40', '55', '75', '100'),
        ('simmers for {} minutes', 'is ready after {} minutes', 'takes {} minutes to prepare'),
      ),
      'skill': {
        'beginner': ('cannot go wrong', 'is easy to prepare', 'suits a first - time cook'),
        'expert': ('asks for a trained hand', 'is hard to get right', 'needs experience'),
      },
      'heat': {
        'mild': ('tastes mild', 'has no chilli in it'),
        'hot': ('burns the tongue', 'comes with plenty of chilli', 'tastes fiery'),
      },
      'diet': {
        'vegan': ('contains nothing from animals', 'is vegan'),
        'gluten free': ('contains no wheat', 'is safe without gluten'),
        'none': ('follows no diet', 'is not for those on a diet'),
      },
      'portions': (
        ('two', 'four', 'six', 'eight', 'ten'),
        ('feeds {}', 'makes {} portions', 'fills {} plates'),
      ),
    },
  ),
}
