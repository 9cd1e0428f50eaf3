"""What the voices of the embedded pack say: sentences written for it, no sentence in two splits."""

from __future__ import annotations

from earshot.pipeline.data.base import Split

_TRAIN = """
The kettle began to whistle softly.
Nobody noticed the open window.
She keeps her bicycle in the hall.
Rain is expected before noon.
Turn left after the old bridge.
His answer was short and honest.
We bought fresh bread this morning.
The train leaves at quarter past six.
A small bird sat on the fence.
Please bring me a glass of water.
The meeting was moved to Thursday.
Their garden is full of roses.
I have never seen the sea so calm.
Put the books back on the shelf.
He fixed the radio with a spoon.
The road was covered with leaves.
Can you hear the church bells?
My brother works at the harbour.
It was too dark to read the map.
The soup needs a little more salt.
They painted the kitchen yellow.
Every child received a new pencil.
The old clock stopped at midnight.
We waited an hour for the ferry.
Her voice was clear and steady.
The doctor will see you shortly.
Three boats returned before dawn.
Close the gate behind you, please.
The library opens at nine o'clock.
He forgot his umbrella on the bus.
Fresh snow fell during the night.
The concert was sold out in minutes.
Add two cups of flour and stir.
I would rather walk than drive.
The cat sleeps beside the stove.
Check the oil before you leave.
Our neighbours have a noisy dog.
The film was longer than expected.
Someone left a message for you.
The lamp in the corner is broken.
She learned to swim in the lake.
Take the second door on the right.
The factory closed many years ago.
This jacket is warm and light.
Birds gather here in the autumn.
He whistled all the way home.
The price of coffee went up again.
We planted apples along the wall.
The judge asked a simple question.
Hold the rope with both hands.
A strong wind shook the windows.
The baby laughed at the puppet.
Send the parcel by Friday evening.
The stairs are steep and narrow.
I found your glasses in the car.
The river is wide at this point.
They share a flat near the station.
The teacher smiled and said nothing.
Keep the receipt for your records.
The horses were afraid of thunder.
We finally reached the last village.
The battery lasts for ten hours.
Her uncle builds wooden violins.
The news spread through the town.
Could you repeat the last number?
The path follows the edge of the wood.
He poured the tea without a word.
The tower can be seen from the beach.
Both answers turned out to be wrong.
The pilot spoke to the passengers.
A thin layer of ice covered the pond.
The shop sells paper and string.
It takes courage to change your mind.
The engine started at once.
She wrote the address on her hand.
The market is busy on Saturdays.
Leave your boots outside the door.
The moon rose above the hills.
Nine people signed the letter.
The cheese comes from a mountain farm.
He measured the table twice.
The phone rang in the next room.
We could smell smoke in the valley.
The curtain fell to loud applause.
Fold the blanket and put it away.
The lift is out of order today.
An owl called from the dark barn.
The tickets are in my coat pocket.
Our team lost by a single point.
The water was cold but clean.
Tell them we will be a bit late.
The judge's chair was empty.
A yellow taxi stopped at the corner.
The recipe calls for fresh ginger.
Most of the shops were closed.
The bridge was built of local stone.
"""

_VALIDATION = """
The gardener cut the hedge in June.
I left the keys under the mat.
A lorry blocked the narrow lane.
Her sister plays the cello.
The museum is free on Mondays.
We need four chairs and a bench.
The fog lifted shortly after ten.
Somebody knocked at the back door.
Boil the potatoes until they are soft.
The captain ordered a slower speed.
This key does not fit the lock.
The choir sang in the courtyard.
His desk was covered with letters.
Wait until the light turns green.
"""

_TEST = """
The postman arrived earlier than usual.
We crossed the field before sunset.
Mix the butter with brown sugar.
The lighthouse stands on a rock.
Nobody could explain the strange noise.
Call me when the package arrives.
The wooden floor creaked under him.
She sold her paintings at the fair.
A narrow path leads to the cave.
The bakery smells wonderful today.
Please speak a little more slowly.
The sailors repaired the torn sail.
My watch is five minutes fast.
They met by chance in the museum.
The apples on that tree are sour.
Write your name at the bottom.
The storm destroyed several roofs.
He carried the piano up the stairs.
Winter came early that year.
The answer is hidden in the text.
A red balloon drifted over the park.
The nurse checked his temperature.
We had lunch under the big oak.
The bus was late because of snow.
Dinner will be ready in an hour.
Lock the cellar and bring the key.
The village has only one street.
Good evening, how may I help you?
"""

SENTENCES: dict[Split, tuple[str, ...]] = {
    "train": tuple(_TRAIN.strip().splitlines()),
    "validation": tuple(_VALIDATION.strip().splitlines()),
    "test": tuple(_TEST.strip().splitlines()),
}
